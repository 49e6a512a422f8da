"""The image codec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from isthmus.choices.parameters import Parameters
from isthmus.choices.rules import Number, OneOf, Rule, Whole, broken_rules, either
from isthmus.estimators import params_json
from isthmus.estimators.fitting import refuse
from isthmus.estimators.saved import Saved
from isthmus.exceptions import DataError, ModelFileError, StreamError
from isthmus.files.model_file import State
from isthmus.files.records import Count, Json, Real, Record, pack, unpack
from isthmus.seeds import seed_from
from isthmus.tasks.compression import container
from isthmus.tasks.compression.coding import constriction
from isthmus.tasks.compression.container import FLAT, STACKED, Container
from isthmus.tasks.compression.pictures import as_pictures
from isthmus.tasks.compression.records import batches_of, compressed, decompressed, measured, shown, uniform_channels
from isthmus.tasks.compression.steps import MOST_CODE
from isthmus.tasks.compression.targets import Goal, Target, code_for_target
from isthmus.tasks.compression.transforms import TRANSFORMS, Transform

MOST_MEASURED = 16
"""Records of images on which a target is searched."""
MOST_DENSE = 1 << 16
"""Most values of an image of the dense transform, whose networks grow with them."""


@dataclass(eq=False, repr=False, kw_only=True)
class ImageCodec(Saved, Parameters, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Compresses images to fewer bytes than JPEG at the same quality; every machine restores the same pixels.

    By default, a wavelet transform makes coefficients, integer quantisation removes what is not worth its bits, and
    small integer networks, learned from the images of `fit`, predict how large each coefficient is from those already
    known, so that an entropy coder needs few bits (context modelling). For thousands of small, alike images, such as
    digits, ``transform="dense"`` learns an autoencoder of whole images instead. One model serves all rates, because the
    quantisation step is in the stream. Restoring uses integer arithmetic only.

    Parameters
    ----------
    target
        The rate, such as ``"0.4 bpp"`` (bits per pixel of all training images together, not exceeded), or the mean
        PSNR, such as ``"32 dB"`` (reached), that `compress` aims at. `fit` finds the quantisation step that gives it on
        up to 16 records of training images; other images may differ.
    lambda_
        Instead of a target: the squared error (in squared grey levels, summed over all values of all channels) that is
        worth one bit, > 0. Images are then compressed at equal slopes of rate and distortion.
    transform
        ``"wavelet"`` for images of any sizes and contents. ``"dense"`` for images of one size, at most 65,536 values
        each, that have much in common and of which there are thousands to learn from; it is learned for the target, and
        farther from it other rates get worse. A tenth of the images is then kept from learning (if there are at least
        20), and the step of the target is found on it.
    max_images
        Most images to learn from, >= 1; others are sampled. None: 200 for wavelets, 100,000 for ``"dense"``.
    n_steps
        Training steps of the networks in each of two rounds, >= 1.
    random_state
        Seed or generator.
    verbose
        1 shows progress on stderr.

    Attributes
    ----------
    code_ : int
        The quantisation step of the target: (code / 16 - 1) octaves above one grey level; with ``"dense"``,
        (code / 16 - 4) octaves above the step of training.
    rate_, psnr_ : float
        Bits per pixel and mean PSNR (dB) of the images on which that step was found.
    n_channels_ : int
        1 for grey training images, 3 for colour; a codec of colour images compresses grey ones too.

    Examples
    --------
    >>> from isthmus import datasets
    >>> digits = (datasets.load_digits().X.reshape(-1, 8, 8) * 255).astype("uint8")
    >>> codec = ImageCodec("25 dB", n_steps=20, max_images=50, random_state=0).fit(digits)
    >>> blob = codec.compress(digits[:100])
    >>> restored = codec.decompress(blob)
    >>> restored.shape, len(blob) < digits[:100].size / 2
    ((100, 8, 8), True)
    >>> bool((restored == codec.reconstruct(digits[:100])).all())
    True
    """

    target: str | None = field(default="0.4 bpp", kw_only=False)
    lambda_: float | None = None
    transform: str = "wavelet"
    max_images: int | None = None
    n_steps: int = 1500
    random_state: Any = None
    verbose: int | bool = 0

    learned_in: ClassVar[str] = "model_"
    in_file: ClassVar[frozenset[str]] = frozenset(["model_", "n_channels_", "code_", "rate_", "psnr_"])
    rules: ClassVar[Mapping[str, Rule]] = {
        "lambda_": either(Number(0.0, open_low=True), OneOf((None,))),
        "transform": OneOf(tuple(TRANSFORMS)),
        "max_images": either(Whole(1), OneOf((None,))),
        "n_steps": Whole(1),
        "verbose": either(Whole(0), OneOf((True, False))),
    }

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn from images.

        Parameters
        ----------
        X
            uint8 images: an array, (n, h, w) or (n, h, w, 3), a list of (h, w) or (h, w, 3) of any sizes, or the path
            of a folder, which is read as viewers display it.
        y
            Ignored.

        Raises
        ------
        DataError
            The images cannot be used, or the target cannot be reached on them.
        ValueError
            A parameter is wrong.
        """
        refuse([*broken_rules(self, self.rules), *self._mistakes()])
        constriction()
        seed = seed_from(self.random_state)
        images = uniform_channels(as_pictures(X).arrays)
        transform = TRANSFORMS[self.transform]
        most = self.max_images or transform.max_images
        if len(images) > most:
            chosen = np.random.default_rng(seed).permutation(len(images))[:most]
            images = [images[place] for place in np.sort(chosen).tolist()]
        learned, others = _split(images, seed) if transform.for_one_size else (images, images)
        goal = Goal(None if self.target is None else Target.parse(self.target), self.lambda_)
        tell = shown(self.verbose, "learning")
        self.model_ = transform.learn(batches_of(learned), goal, seed, self.n_steps, tell)
        self.n_channels_ = self.model_.n_channels
        batches = batches_of(others)
        batches = batches[:: -(-len(batches) // MOST_MEASURED)]  # every step that is tried codes all of these
        try:
            self.code_ = self._code_for(batches, transform.first_code)
        except DataError as error:
            raise DataError(f"{error} {transform.remedy}".rstrip()) from None
        self.rate_, self.psnr_ = (getattr(measured(self.model_, batches, self.code_), name) for name in ("bpp", "psnr"))
        return self

    def _mistakes(self) -> list[str]:
        if (self.target is None) == (self.lambda_ is None):
            given = f"target={self.target!r} and lambda_={self.lambda_!r}"
            return [f"ImageCodec: {given}, but exactly one of them must be given; with lambda_, pass target=None."]
        try:
            if self.target is not None:
                Target.parse(self.target)
        except (TypeError, ValueError):
            return [f"ImageCodec: target={self.target!r} must be a rate, '0.4 bpp', or a quality, '32 dB'."]
        return []

    def _code_for(self, batches: Sequence[np.ndarray], start: int, target: str | None = None) -> int:
        wanted = target or self.target
        if wanted is None:
            return TRANSFORMS[self.transform].code_for_lambda(float(self.lambda_ or 0))
        return code_for_target(Target.parse(wanted), lambda code: measured(self.model_, batches, code), start)

    def compress(
        self,
        X: Any,
        *,
        target: str | None = None,
        code: int | None = None,
        names: Sequence[str] | None = None,
        skip_bad: bool = False,
    ) -> bytes:
        """Images as one stream of bytes.

        Parameters
        ----------
        X
            Images as for `fit`.
        target
            Another target for these images, ``"0.25 bpp"`` or ``"35 dB"``; one step for all of them is searched. None:
            the step of `fit`.
        code
            A quantisation step to use, 0 to 144, as in `code_`.
        names
            A name for each image, kept in the stream; those of a folder are its files.
        skip_bad
            Whether unreadable files of a folder are left out, with a warning.

        Raises
        ------
        DataError
            The images cannot be used, have other channels than those of `fit`, or the target cannot be reached.
        """
        check_is_fitted(self, "model_")
        pictures = as_pictures(X, skip_bad=skip_bad)
        kept = list(pictures.names if names is None else names)
        if kept and len(kept) != len(pictures.arrays):
            raise ValueError(
                f"names has {len(kept)} entries, but there are {len(pictures.arrays)} images; pass one name per image."
            )
        self._check(pictures.arrays, kept)
        batches = batches_of(pictures.arrays)
        if code is None:
            code = self.code_ if target is None else self._code_for(batches, self.code_, target)
        elif not 0 <= code <= MOST_CODE:
            raise ValueError(f"code={code} must be a whole number from 0 to {MOST_CODE}.")
        tell = shown(self.verbose, "compressing")
        entries = []
        for done, batch in enumerate(batches, start=1):
            entries.append(compressed(self.model_, batch, code))
            tell(done, len(batches))
        flags = STACKED * pictures.stacked + FLAT * pictures.flat
        return container.write(Container("images", self.model_.fingerprint, entries, kept, flags))

    def _check(self, images: Sequence[np.ndarray], names: Sequence[str]) -> None:
        for place, image in enumerate(images):
            misfit = self.model_.misfit(*image.shape)
            if misfit is not None:
                name = f"'{names[place]}'" if names else f"Image {place}"
                raise DataError(f"{name} {misfit}")

    def decompress(self, blob: bytes, *, image: int | None = None, max_pixels: int = container.MOST_PIXELS) -> Any:
        """Images of a stream, exactly as `reconstruct` gives them.

        Parameters
        ----------
        blob
            What `compress` returned.
        image
            Only this one, counted from 0; others are not decoded.
        max_pixels
            Most numbers of a record, to limit the memory that a foreign file can ask for.

        Returns
        -------
        An array or a list, as the images were given; a single image for `image`.

        Raises
        ------
        StreamError
            The stream is of another model, damaged, cut, extended, or not a stream.
        """
        check_is_fitted(self, "model_")
        stream = self.read(blob, max_pixels=max_pixels)
        flat = bool(stream.flags & FLAT)
        if image is not None:
            entry, place = stream.find(image)
            found: np.ndarray = decompressed(self.model_, entry)[place]
            return found[..., 0] if flat else found
        tell = shown(self.verbose, "restoring")
        arrays: list[np.ndarray] = []
        for done, entry in enumerate(stream.entries, start=1):
            arrays.extend(decompressed(self.model_, entry))
            tell(done, len(stream.entries))
        shaped = [array[..., 0] if flat else array for array in arrays]
        return np.stack(shaped) if stream.flags & STACKED else shaped

    def read(self, blob: bytes, *, max_pixels: int = container.MOST_PIXELS) -> Container:
        """The container of a stream of this codec, checked, with nothing decoded."""
        check_is_fitted(self, "model_")
        stream = container.read(blob, max_pixels=max_pixels)
        if stream.mode != "images" or stream.fingerprint != self.model_.fingerprint:
            raise StreamError(
                f"The stream is of another model (fingerprint {stream.fingerprint.hex()}, mode {stream.mode}); this "
                f"codec has {self.model_.fingerprint.hex()}. Use the model file that compressed it."
            )
        for entry in stream.entries:
            sizes = entry.height, entry.width, entry.n_channels
            if self.model_.misfit(*sizes) is not None or entry.code > MOST_CODE:
                raise StreamError("The index of the stream does not fit the codec. Copy the file again.")
        return stream

    def reconstruct(self, X: Any, *, code: int | None = None) -> Any:
        """Images as they are after `compress` and `decompress`, at the step of `fit` or another one."""
        check_is_fitted(self, "model_")
        return self.decompress(self.compress(X, code=code))

    def _to_state(self) -> State:
        values = CodecValues(
            params=params_json.params_to_json(self.get_params(deep=False)),
            code=self.code_,
            rate=self.rate_,
            psnr=self.psnr_,
            transform=self.model_.transform,  # the parameter may have been changed since `fit`
        )
        return pack(type(self).__name__, values, self.model_.arrays(), TRANSFORMS[self.model_.transform].declared)

    @classmethod
    def _from_state(cls, state: State, *, network: Any = None, device: str = "auto") -> Self:  # noqa: ARG003  # as all
        transform = _transform_of(state)
        values = unpack(state, CodecValues, transform.declared)
        codec = params_json.make_estimator(cls, values.params)
        if values.code > MOST_CODE:
            raise ModelFileError(f"its header does not fit: code={values.code} is more than {MOST_CODE}.")
        codec.model_ = transform.of_arrays(state.arrays)
        codec.n_channels_ = codec.model_.n_channels
        codec.code_, codec.rate_, codec.psnr_ = values.code, values.rate, values.psnr
        return codec


class CodecValues(Record, frozen=True):
    """The contents of a codec's file besides arrays."""

    params: Json
    code: Count
    rate: Real
    psnr: Real
    transform: str = "wavelet"


def _transform_of(state: State) -> Transform:
    """The transform of a model file; those written before there were several name none."""
    name = state.values.get("transform", "wavelet")
    if name not in TRANSFORMS:
        raise ModelFileError(f"its header does not fit: transform={name!r} must be one of {', '.join(TRANSFORMS)}.")
    return TRANSFORMS[name]


def _split(images: Sequence[np.ndarray], seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Images to learn from, and others to measure on: a tenth, or the same images if there are fewer than 20."""
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        one, other = sorted(shapes)[:2]
        raise DataError(
            f"The images have several sizes, such as {one} and {other}, but transform='dense' needs images of one "
            "size; resize them, or use transform='wavelet'."
        )
    if images[0].size > MOST_DENSE:
        raise DataError(
            f"The images have the shape {images[0].shape}, {images[0].size:,} values, but transform='dense' takes at "
            f"most {MOST_DENSE:,}; cut them into tiles, or use transform='wavelet'."
        )
    order = np.random.default_rng(seed).permutation(len(images)).tolist()
    n_out = len(images) // 10 if len(images) >= 20 else 0
    return [images[i] for i in order[n_out:]], [images[i] for i in order[:n_out] or order]
