"""The restorer: it learns to undo a damage to images, and restores images of any size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from isthmus.choices import CORRUPTIONS, LOSSES, NETWORKS, UNet
from isthmus.choices.parameters import Parameters, is_auto
from isthmus.choices.precision import single_precision
from isthmus.choices.registry import Registry
from isthmus.choices.rules import Number, OneOf, Rule, Whole, broken_rules, either
from isthmus.diagnosis import Diagnosis
from isthmus.estimators.fitting import refuse
from isthmus.estimators.saved import Saved
from isthmus.estimators.validation import refuse_targets
from isthmus.exceptions import DataError
from isthmus.files.model_file import State
from isthmus.seeds import seed_from
from isthmus.tasks.restoration import persistence
from isthmus.tasks.restoration.channels import Passage
from isthmus.tasks.restoration.crops import Lesson
from isthmus.tasks.restoration.damages import UNKNOWN, damage_of
from isthmus.tasks.restoration.diagnosing import Compared, diagnosis_of
from isthmus.tasks.restoration.files import pairs_of
from isthmus.tasks.restoration.lessons import (
    adds_colour,
    batch_size_for,
    crop_side,
    damage_mistakes,
    damaged_by,
    pixel_loss,
    refuse_lines,
    resembling,
    scale_of,
    warn_of_correlation,
    with_alpha,
)
from isthmus.tasks.restoration.objective import Enlarging
from isthmus.tasks.restoration.pictures import Pictures, Range, as_pictures
from isthmus.tasks.restoration.quality import ImageQuality, measures
from isthmus.tasks.restoration.restorer_fit import Plan, fit_restorer, tiling_of
from isthmus.tasks.restoration.symmetries import SYMMETRIES, SelfEnsemble
from isthmus.tasks.restoration.tiles import restore_alike, same_shape_runs
from isthmus.training import OPTIMIZERS, SCHEDULES, Adam, choose_device
from isthmus.training.devices import PRECISIONS

SMALLEST_CROP = 8
"""Side of the smallest crops. Smaller images are padded by reflection."""


@dataclass(eq=False, repr=False, kw_only=True)
class Restorer(Saved, Parameters, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Learns to undo a damage to images: noise, blur, holes, stains, missing colour, low resolution.

    It learns from one of three kinds of images:

    * clean images, which training damages: ``Restorer("gaussian-noise").fit(clean)``;
    * pairs of damaged and clean images: ``Restorer().fit(damaged, target=clean)``;
    * noisy images alone: ``Restorer("unknown").fit(noisy)``.

    The network is a `UNet` with skip connections, trained on random crops. It restores images of any size. Large images
    are restored in tiles, and the result equals that of the whole image.

    Parameters
    ----------
    damage
        A corruption, a list of corruptions, the short name of one, ``"unknown"`` for noisy images without clean ones,
        or None for pairs. Strengths are in units of pixels in [0, 1].
    network
        A `UNet`.
    loss
        Distance between restored and clean pixels: ``"mean-squared-error"``, which maximises the PSNR over all pixels,
        ``"log-mean-squared-error"``, which maximises the mean PSNR of crops and suits damage of varying strength,
        ``"mean-absolute-error"`` or ``"huber"``.
    residual
        Whether the network learns the difference between clean and damaged image instead of the clean image.
    crop_size
        Height and width of the crops, >= 8; smaller for smaller images. Rounded to a multiple of the network's stride,
        which is 8 by default: down, or up for images that are smaller, which are padded by reflection.
    batch_size
        Crops per step. For the same computing time, small batches and more steps restore better. ``"auto"``: 8 crops of
        64×64, and up to 64 smaller ones.
    max_steps
        Training steps. More steps restore better.
    learning_rate, schedule, precision
        As for `Autoencoder`.
    optimizer
        As for `Autoencoder`; ``"auto"``: Adam with ``beta2=0.99`` and clipped gradients.
    augment
        How crops vary at random: True for flips and rotations, ``"mirror"`` to exchange left and right only, as for
        faces and scenes, or False.
    self_ensemble
        Whether a restored image is the mean over the flips and rotations of `augment`: better, in up to eight times the
        time.
    tile_size
        Height and width of the tiles of large images at restoration, in pixels; memory grows with its square.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
    random_state
        Seed or generator.
    verbose
        1 shows progress on stderr.

    Attributes
    ----------
    objective_ : Restoring
        The trained network; ``objective_.pictures`` is the `torch.nn.Module` for images, (n, c, h, w).
    history_ : History
        Losses and learning rates, one row every 100 steps.
    n_channels_in_, n_channels_out_
        Channels of damaged and of restored images.
    n_images_
        Number of images, or pairs, of fit.
    scale_
        Height and width of restored images divided by those of damaged ones.
    device_
        The device in use.

    Examples
    --------
    >>> from isthmus import datasets
    >>> images = datasets.load_digits().X.reshape(-1, 8, 8).astype("float32")
    >>> restorer = Restorer("gaussian-noise", max_steps=100, random_state=0).fit(images[:1000])
    >>> noisy = restorer.damage_images(images[1000:1100], random_state=1)
    >>> restorer.restore(noisy).shape
    (100, 8, 8)
    >>> quality = restorer.score(noisy, target=images[1000:1100])
    >>> bool(quality.psnr > quality.psnr_before + 3)
    True
    """

    damage: Any = field(default=None, kw_only=False)
    network: Any = "unet"
    loss: Any = "mean-squared-error"
    residual: bool = True
    crop_size: int = 64
    batch_size: int | str = "auto"
    max_steps: int = 4000
    learning_rate: float = 0.002
    schedule: Any = "one-cycle"
    optimizer: Any = "auto"
    precision: str = "float32"
    augment: bool | str = True
    self_ensemble: bool = False
    tile_size: int = 512
    device: str = "auto"
    random_state: Any = None
    verbose: int | bool = 0

    choice_registries: ClassVar[Mapping[str, Registry[Any]]] = {
        "damage": CORRUPTIONS,
        "network": NETWORKS,
        "loss": LOSSES,
        "schedule": SCHEDULES,
        "optimizer": OPTIMIZERS,
    }
    learned_in: ClassVar[str] = "objective_"
    in_file: ClassVar[frozenset[str]] = frozenset(
        {
            *("objective_", "history_", "stop_reason_", "device_", "n_images_", "side_", "scale_"),
            *("given_range_", "wanted_range_", "n_channels_in_", "n_channels_out_", "adds_colour_"),
        }
    )
    rules: ClassVar[Mapping[str, Rule]] = {
        "residual": OneOf((True, False)),
        "crop_size": Whole(SMALLEST_CROP),
        "batch_size": either(Whole(1), OneOf(("auto",))),
        "max_steps": Whole(1),
        "learning_rate": Number(0.0, open_low=True),
        "precision": OneOf(PRECISIONS),
        "augment": OneOf((True, False, "mirror")),
        "self_ensemble": OneOf((True, False)),
        "tile_size": Whole(16),
        "verbose": either(Whole(0), OneOf((True, False))),
    }

    def fit(self, X: Any, y: Any = None, *, target: Any = None) -> Self:
        """Learn from images.

        Parameters
        ----------
        X
            Images: clean ones, damaged ones with a target, or noisy ones for ``damage="unknown"``. An array, (n, h, w)
            or (n, h, w, c); a list of arrays, (h, w) or (h, w, c), of any sizes; or the path of a folder of images.
        y
            Ignored; clean images are given as `target`.
        target
            For pairs: the clean image of each damaged one, in the same order, in any of these forms; the images of two
            folders are paired by their names. Targets may have other channels (grey → colour), or be a whole number of
            times as high and wide (small → large).

        Raises
        ------
        DataError
            The images cannot be used, or pairs do not fit together; the message names the image.
        ValueError
            A parameter is wrong, there is no damage and no target, or both.
        DivergenceError
            The loss is not finite, or rose far above its first value.
        """
        refuse_targets(self, y, "Pass clean images by name: fit(damaged, target=clean).")
        refuse([*broken_rules(self, self.rules), *self._mistakes(target)])
        device, seed = choose_device(self.device), seed_from(self.random_state)
        lesson = self._lesson(X, target)
        plan = self._plan(lesson, seed)
        refuse(damage_mistakes(plan, lesson))
        if lesson.alone:
            warn_of_correlation(lesson)
        fitted = fit_restorer(lesson, plan, device)
        self.objective_, self.history_, self.stop_reason_ = fitted.objective, fitted.history, fitted.stop_reason
        self.given_range_, self.wanted_range_ = lesson.given_range, lesson.wanted_range or lesson.given_range
        self.n_channels_in_, self.n_channels_out_, self.scale_ = plan.n_given, plan.n_wanted, lesson.scale
        self.side_, self.device_, self.n_images_ = plan.side, str(device), len(lesson.given)
        self.adds_colour_ = adds_colour(lesson, plan)
        return self

    def _mistakes(self, target: Any) -> list[str]:
        """The faults of the parameters in combination."""
        found = []
        if self.damage is None and target is None:
            found.append(
                "Restorer: there is neither a damage nor a target. Give Restorer(damage=…) to learn from clean images, "
                "fit(damaged, target=clean) for pairs, or Restorer('unknown') to learn from noisy images alone."
            )
        if self.damage is not None and target is not None:
            found.append(
                f"Restorer: damage={self.damage!r} and a target exclude each other: pairs come with their damage. Use "
                "Restorer() for pairs, or leave the target out."
            )
        network = NETWORKS.resolve(self.network)
        if not isinstance(network, UNet):
            found.append(f"Restorer: network={self.network!r} must be a UNet, which restores images of any size.")
        found += network.mistakes()
        if self.damage is not None and not self._learns_alone:
            found += damage_of(self.damage).mistakes()
        return found

    @property
    def _learns_alone(self) -> bool:
        """Whether there are only noisy images."""
        return isinstance(self.damage, str) and self.damage == UNKNOWN

    def _lesson(self, X: Any, target: Any) -> Lesson:
        if target is None:
            given, alone = as_pictures(X), self._learns_alone
            if alone:
                refuse_lines(given)
            return Lesson(given.arrays, Range.of(given, noisy=alone), alone=alone)
        given, wanted = pairs_of(X, target)
        scale = scale_of(given, wanted)
        return Lesson(given.arrays, Range.of(given, noisy=True), wanted.arrays, Range.of(wanted), scale)

    def _plan(self, lesson: Lesson, seed: int) -> Plan:
        network = NETWORKS.resolve(self.network)
        assert isinstance(network, UNet)
        n_given, side = lesson.given[0].shape[2], crop_side(lesson, self.crop_size, network.stride)
        return Plan(
            network=network,
            loss=pixel_loss(self.loss),
            corruption=None if lesson.paired else damage_of(self.damage),
            side=side,
            n_given=n_given,
            n_wanted=n_given if lesson.wanted is None else lesson.wanted[0].shape[2],
            residual=bool(self.residual),
            batch_size=batch_size_for(side) if is_auto(self.batch_size) else int(self.batch_size),
            max_steps=int(self.max_steps),
            learning_rate=float(self.learning_rate),
            schedule=SCHEDULES.resolve(self.schedule),
            optimizer=OPTIMIZERS.resolve(
                Adam(beta2=0.99, clip_norm=1.0) if is_auto(self.optimizer) else self.optimizer
            ),
            precision=self.precision,
            turns=SYMMETRIES[self.augment],
            seed=seed,
            verbose=bool(self.verbose),
        )

    # -- use -----------------------------------------------------------------------------------------------------------

    def restore(self, X: Any) -> Any:
        """Restore images.

        Parameters
        ----------
        X
            Images in any form that `fit` takes, of any sizes and channels. Floats have the unit of the images at `fit`;
            bytes and 16-bit images are converted. A restorer of colour images takes grey images as three equal
            channels. A restorer of grey images restores each channel of a colour image. A fourth channel (or a second)
            is transparency and is not changed.

        Returns
        -------
        Restored images in the form of X: an array, or a list (also for a folder), in the dtype of X.

        Raises
        ------
        DataError
            The images cannot be used; the message names the first.
        """
        check_is_fitted(self, "objective_")
        pictures = as_pictures(X, each_as_it_is=True)
        return pictures.like_given([*self._restored(pictures)])

    def _restored(self, pictures: Pictures) -> Iterator[np.ndarray]:
        """Each image restored, (h, w, c), in its own dtype."""
        for run in same_shape_runs(pictures.arrays):
            images, names = pictures.arrays[run], pictures.names[run]
            passage = Passage.of(
                images[0].shape[2], self.n_channels_in_, self.n_channels_out_, colours=self.adds_colour_, name=names[0]
            )
            for image, name in zip(images, names, strict=True):
                self.given_range_.check(image, name)
            entering = [passage.enter(image) for image in images]
            outputs = self._through([part for parts in entering for part in parts])
            per_image = len(entering[0])
            for place, image in enumerate(images):
                restored = passage.leave(outputs[place * per_image : (place + 1) * per_image])
                finished = self.wanted_range_.unscaled(restored, self._dtype_of(image))
                yield with_alpha(finished, image, self.scale_) if passage.has_alpha else finished

    def _dtype_of(self, image: np.ndarray) -> np.dtype[Any]:
        """The dtype of a restored image: that of the image, or floats where the target's unit needs them."""
        if image.dtype.kind != "f" and not self.wanted_range_.is_unit and self.given_range_.is_unit:
            return np.dtype(np.float32)
        if image.dtype.kind == "b" and not self.wanted_range_.is_unit:
            return np.dtype(np.float32)
        return image.dtype

    @torch.inference_mode()
    def _through(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Images of one shape through the network: (h, w, n_given) each → (h', w', n_wanted), floats."""
        with single_precision():
            return restore_alike(self._network, images, self._read, tiling_of(self.objective_, int(self.tile_size)))

    def _read(self, images: np.ndarray) -> Tensor:
        """Pixels, (n, h, w, c), as the network's numbers, (n, c, h, w), on the device."""
        return self.given_range_.scaled(images).movedim(-1, 1).to(self.device_)

    @property
    def restoring_network(self) -> Enlarging | SelfEnsemble:
        """The network for images, (n, c, h, w) in units of training, over all symmetries if `self_ensemble`."""
        check_is_fitted(self, "objective_")
        pictures = self.objective_.pictures
        return SelfEnsemble(pictures, SYMMETRIES[self.augment]) if self.self_ensemble else pictures

    def _network(self, x: Tensor) -> Tensor:
        restored: Tensor = self.objective_.choices.loss.link(self.restoring_network(x))
        return restored

    def damage_images(self, X: Any, random_state: Any = 0) -> Any:
        """Damage clean images as training does: in the form and the dtype of X.

        Raises
        ------
        ValueError
            The damage is not known: the restorer was fitted to pairs or to noisy images alone.
        """
        check_is_fitted(self, "objective_")
        corruption = self.objective_.choices.corruption
        if corruption is None:
            raise ValueError(
                "The damage is not known, because this Restorer was fitted to pairs or to noisy images alone; give "
                "damaged images and their targets: score(damaged, target=clean)."
            )
        pictures = as_pictures(X)
        generator = torch.Generator().manual_seed(seed_from(random_state))
        damaged = []
        for image, name in zip(pictures.arrays, pictures.names, strict=True):
            self.given_range_.check(image, name)
            x = damaged_by(corruption, self.given_range_.scaled(image[None]), generator, name)
            damaged.append(self.given_range_.unscaled(x, image.dtype))
        return pictures.like_given(damaged)

    def score(self, X: Any, y: Any = None, *, target: Any = None) -> ImageQuality:
        """The quality of restored images and of the damaged ones.

        Parameters
        ----------
        X
            Damaged images; without a target clean ones, which are damaged first with a fixed seed.
        y
            Ignored.
        target
            The clean images.

        Returns
        -------
        A number, the mean PSNR in decibels, with PSNR, SSIM and RMSE after and before as attributes.

        Raises
        ------
        ImportError
            scikit-image is not installed: ``pip install 'isthmus[images]'``.
        """
        check_is_fitted(self, "objective_")
        refuse_targets(self, y, "Pass clean images by name: score(damaged, target=clean).")
        compared = self.compare(X, target=target)
        return ImageQuality(measures(compared.before, compared.clean), measures(compared.after, compared.clean))

    def compare(self, X: Any, *, target: Any = None, random_state: Any = 0) -> Compared:
        """Damaged, restored and clean images beside each other, in [0, 1].

        Parameters
        ----------
        X
            Damaged images; without a target clean ones, which are damaged first.
        target
            The clean images.
        random_state
            Seed of the damage.

        Returns
        -------
        Lists ``before``, ``after`` and ``clean`` of images, (h, w, c); those before have the size and the channels of
        the clean ones.

        Raises
        ------
        ValueError
            There is no target, and the damage is not known: the restorer was fitted to pairs or to noisy images alone.
        """
        check_is_fitted(self, "objective_")
        if target is None and self.objective_.choices.corruption is None:
            raise ValueError(
                "Restored images are compared with clean ones, but the damage is not known, as this Restorer was "
                "fitted to pairs or to noisy images alone; pass damaged images with target= (--target), the clean "
                "image of each."
            )
        damaged, clean = (self.damage_images(X, random_state), X) if target is None else (X, target)
        given, wanted = pairs_of(damaged, clean, "X" if target is None else "target")
        if scale_of(given, wanted) != self.scale_:
            got = scale_of(given, wanted)
            raise DataError(
                f"target[0] is {got} times as high and wide as X[0], but must be {self.scale_} times, as at fit."
            )
        for image, name in zip(wanted.arrays, wanted.names, strict=True):
            self.wanted_range_.check(image, name)
        restored = [self.wanted_range_.scaled(image).numpy() for image in self._restored(given)]
        truth = [self.wanted_range_.scaled(image).numpy() for image in wanted.arrays]
        if restored[0].shape[2] != truth[0].shape[2]:
            raise DataError(
                f"{wanted.names[0]} has {truth[0].shape[2]} channels, but {given.names[0]} is restored to "
                f"{restored[0].shape[2]}; pass targets with as many channels."
            )
        before = [
            resembling(self.given_range_.scaled(image), part.shape)
            for image, part in zip(given.arrays, truth, strict=True)
        ]
        return Compared(before, restored, truth, wanted.names if target is None else given.names)

    def diagnose(self, X: Any, *, target: Any = None, random_state: Any = 0) -> Diagnosis:
        """Check for common problems: `isthmus.diagnose` calls this.

        Whether the damage is undone; how many images became worse, whose indices are in ``unlike_rows``; whether the
        error is far above that of training; and whether training was stopped or diverged.

        Parameters
        ----------
        X, target, random_state
            As for `compare`.
        """
        return diagnosis_of(self, self.compare(X, target=target, random_state=random_state))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array = False, True
        return tags

    # -- files ---------------------------------------------------------------------------------------------------------

    def _to_state(self) -> State:
        return persistence.to_state(self)

    def _learned_members(self) -> Iterable[Any]:
        return vars(self.objective_.choices).values() if hasattr(self, "objective_") else ()

    @classmethod
    def _from_state(cls, state: State, *, network: Any = None, device: str = "auto") -> Self:  # noqa: ARG003  # as all
        return persistence.from_state(cls, state, device)
