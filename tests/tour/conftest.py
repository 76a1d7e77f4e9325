import tour_scripts  # noqa: F401  puts tour/ on the path
