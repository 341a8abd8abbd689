"""What networks learn from: a checked catalog of photos and masks, drawn scenes, augmentation and loading."""
