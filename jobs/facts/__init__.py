"""What the report tells, one module for each of its sections: counts made in Spark, samples of fixed size."""
