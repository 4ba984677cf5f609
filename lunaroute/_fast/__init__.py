"""The inner loops, compiled. Nothing in here imports anything else of ours."""
