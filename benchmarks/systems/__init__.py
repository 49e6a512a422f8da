"""Each system of the field's course texts, as published and by default, with its figure beside the target."""
