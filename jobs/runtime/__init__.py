"""What every command uses: settings, the Spark session, progress, the format of numbers."""
