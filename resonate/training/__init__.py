"""LightningModules, losses and callbacks."""
