"""Pictures of what featurelens finds; the only room that knows matplotlib."""
