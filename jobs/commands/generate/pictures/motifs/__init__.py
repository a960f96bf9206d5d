"""What a picture shows: people, animals, things, backdrops, overlays."""
