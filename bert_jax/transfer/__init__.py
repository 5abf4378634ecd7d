"""What a pretrained encoder is good for: fine-tuning, baselines, inference."""
