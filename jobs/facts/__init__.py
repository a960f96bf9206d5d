"""The facts of the report, one module per section: counts made in Spark and samples of bounded size."""
