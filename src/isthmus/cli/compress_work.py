"""What the commands of compression do."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

import isthmus
from isthmus.cli.errors import WrongUsageError

Facts = dict[str, str | int | float]


def compress_folder(
    model: Path, folder: Path, out: Path, target: str | None, *, skip_bad: bool, force: bool, quiet: bool
) -> Facts:
    """Compress a folder to a file, and tell what that brought."""
    isthmus.files.check_writable(out, overwrite=force)
    codec = load_codec(model)
    pictures = isthmus.tasks.compression.as_pictures(folder, skip_bad=skip_bad)
    codec.set_params(verbose=0 if quiet else 1)
    blob = codec.compress(list(pictures.arrays), names=pictures.names, target=target)
    codec.set_params(verbose=0)
    restored = codec.decompress(blob)
    psnr = [
        isthmus.tasks.compression.peak_signal_to_noise(one, other.reshape(one.shape))
        for one, other in zip(pictures.arrays, restored, strict=True)
    ]
    with isthmus.files.atomic(out, overwrite=force) as temporary:
        temporary.write_bytes(blob)
    before = sum((folder / name).stat().st_size for name in {name.partition("#")[0] for name in pictures.names})
    pixels = sum(image.shape[0] * image.shape[1] for image in pictures.arrays)
    return {
        "images": len(pictures.arrays),
        "bytes before": before,
        "bytes after": len(blob),
        "times smaller": before / len(blob),
        "bits per pixel": 8 * len(blob) / pixels,
        "PSNR, dB": float(np.mean(psnr)),
        "saved": str(out),
    }


def load_codec(path: Path) -> Any:
    """The codec of a model file."""
    codec = isthmus.load(path, device="cpu")
    if not isinstance(codec, isthmus.ImageCodec):
        raise WrongUsageError(
            f"'{path}' is a {type(codec).__name__}, but a codec is needed; make one with `isthmus compress fit`."
        )
    return codec


def read_stream(path: Path) -> bytes:
    """The bytes of a compressed file."""
    if not path.is_file():
        raise isthmus.StreamError(f"There is no compressed file at '{path}'; check the path.")
    return path.read_bytes()


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """A block whose stream errors name the file."""
    try:
        yield
    except isthmus.StreamError as error:
        raise isthmus.StreamError(f"'{path}': {error}") from None


def describe_stream(path: Path) -> Facts:
    """What a compressed file holds."""
    blob = read_stream(path)
    with naming(path):
        stream = isthmus.tasks.compression.read(blob)
    sizes = sorted({(entry.height, entry.width) for entry in stream.entries})
    pixels = sum(entry.n_images * entry.height * entry.width for entry in stream.entries)
    shown = [f"{height}×{width}" for height, width in sizes[:5]] + ["…"] * (len(sizes) > 5)
    return {
        "mode": stream.mode,
        "images": stream.n_images,
        "records": len(stream.entries),
        "sizes": ", ".join(shown),
        "channels": ", ".join(map(str, sorted({entry.n_channels for entry in stream.entries}))),
        "steps": ", ".join(map(str, sorted({entry.code for entry in stream.entries}))),
        "bytes": len(blob),
        "bits per pixel": 8 * len(blob) / max(pixels, 1),
        "model": stream.fingerprint.hex(),
        "names": ", ".join(list(stream.names[:5]) + ["…"] * (len(stream.names) > 5)) or "none",
    }


def restore_folder(path: Path, model: Path, out: Path, image: str | None, *, force: bool, quiet: bool) -> Facts:
    """Write the images of a compressed file to a folder, all of them or none."""
    codec = load_codec(model)
    blob = read_stream(path)
    with naming(path):
        stream = codec.read(blob)
        chosen = range(stream.n_images) if image is None else [place_of(image, stream)]
        targets = paths_of(stream)
        check_folder(out, [targets[place] for place in chosen], force=force)
        codec.set_params(verbose=0 if quiet else 1)
        images = codec.decompress(blob) if image is None else [codec.decompress(blob, image=chosen[0])]
    temporary = out.with_name(f".{out.name}.isthmus-{secrets.token_hex(4)}")
    try:
        for place, pixels in zip(chosen, images, strict=True):
            target = temporary / targets[place]
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.asarray(pixels).squeeze(-1) if np.shape(pixels)[2:] == (1,) else pixels).save(target)
        for place in chosen:
            (out / targets[place]).parent.mkdir(parents=True, exist_ok=True)
            (temporary / targets[place]).replace(out / targets[place])
    except OSError as error:
        raise isthmus.OutputError(f"'{out}' cannot be written: {error.strerror or error}.") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return {"images": str(len(images)), "saved": str(out)}


def place_of(image: str, stream: isthmus.tasks.compression.Container) -> int:
    """The place of an image that is named or counted."""
    if image in stream.names:
        return list(stream.names).index(image)
    if image.isdecimal() and int(image) < stream.n_images:
        return int(image)
    raise WrongUsageError(
        f"There is no image {image!r} in the file; it holds {stream.n_images}, counted from 0"
        + (f", such as {stream.names[0]!r}." if stream.names else ".")
    )


def paths_of(stream: isthmus.tasks.compression.Container) -> list[PurePosixPath]:
    """A path below the output folder for each image: its name with the suffix .png; numbers where there are no names.

    Names come from the file, so that they may be anything: those that lead out of the folder are refused.
    """
    names = stream.names or [f"{place:06d}" for place in range(stream.n_images)]
    for name in names:
        parts = PurePosixPath(name).parts
        if not parts or PurePosixPath(name).is_absolute() or ".." in parts or "\\" in name or "\0" in name:
            raise isthmus.StreamError(f"The name {name!r} leads out of the folder; the file is damaged or hostile.")
    paths = [PurePosixPath(name.replace("#", "-")).with_suffix(".png") for name in names]
    whole = [
        path if paths.count(path) == 1 else PurePosixPath(f"{name}.png")
        for path, name in zip(paths, names, strict=True)
    ]
    if len(set(whole)) < len(whole):
        raise isthmus.StreamError("Two images of the file have the same name; restore them with --image N.")
    return whole


def check_folder(out: Path, targets: Sequence[PurePosixPath], *, force: bool) -> None:
    """Raise if the output folder is not a folder, or holds files that would be replaced."""
    if out.exists() and not out.is_dir():
        raise isthmus.OutputError(f"'{out}' is a file; use the name of a folder.")
    if not out.parent.is_dir():
        raise isthmus.OutputError(f"'{out}' cannot be written: there is no folder '{out.parent}'; create it first.")
    there = [target for target in targets if (out / target).exists()]
    if there and not force:
        raise isthmus.OutputError(
            f"'{out / there[0]}' exists; choose another folder, or allow files to be replaced (--force)."
        )
