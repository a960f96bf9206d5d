"""Sources of images and captions: one module for each format, all giving rows of one shape (`rows.SCHEMA`)."""
