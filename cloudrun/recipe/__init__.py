"""Describe a training run: its config, the names of timm, image sizes. For laptop and trainer; without torch."""
