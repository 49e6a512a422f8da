"""Restoration of images."""

from isthmus.tasks.restoration.files import RestoredFile, restore_folder
from isthmus.tasks.restoration.quality import ImageQuality
from isthmus.tasks.restoration.restorer import Restorer

__all__ = ["ImageQuality", "RestoredFile", "Restorer", "restore_folder"]
