"""Train image classifiers: timm backbones, pooled features concatenated, one linear layer."""
