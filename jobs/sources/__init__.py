"""Sources of images and captions: one module for each format; all return rows of the same schema (`rows.SCHEMA`)."""
