"""What a pretrained encoder is good for: fine-tuning for tasks, beside baselines."""
