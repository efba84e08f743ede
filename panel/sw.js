// The shell of the panel; there is none yet.
