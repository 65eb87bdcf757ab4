"""Whether a run learns anything: measures of a few utterances that stay the same, alarms, and what these do."""
