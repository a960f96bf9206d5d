"""What every command runs on: settings, the Spark session, progress, the wording of numbers."""
