"""Restoration of images: documents, noise, missing colour, holes and resolution, beside the methods of scikit-image."""
