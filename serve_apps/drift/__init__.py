"""Whether live photos are still like those that the model was trained on, and which of them are worth labelling."""
