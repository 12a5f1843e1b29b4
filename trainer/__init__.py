"""The bundled trainer: timm backbones, pooled features concatenated, one linear layer."""
