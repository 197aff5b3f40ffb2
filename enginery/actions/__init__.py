"""What people ask of registered engines and of calibrated models; no stage of the pipeline."""
