"""Images decoded safely, and made small."""
