"""Take a trained model to other programs: safetensors for timm, ONNX, torch.export, each with a model card."""
