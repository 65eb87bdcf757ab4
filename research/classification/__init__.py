"""`hark classify`: a head on one, some or all layers of an encoder that is frozen or tuned, beside baselines."""
