"""What a user writes today, each script by itself: the model, two scenes, building outlines."""
