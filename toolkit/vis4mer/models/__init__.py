"""The model: S4, the multi-scale S4 decoder, the frame encoder, and their checkpoints."""
