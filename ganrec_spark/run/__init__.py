"""Running a stage: context, fingerprints, the log that says what is finished."""
