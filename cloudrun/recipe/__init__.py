"""What a training run is asked to do, and what timm knows of its backbones. For laptop and trainer; without torch."""
