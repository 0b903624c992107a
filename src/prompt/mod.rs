//! Prompts: how a request becomes the text a model sees. Formats follow with chat models.
