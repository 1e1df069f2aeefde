"""What is measured of the suite's speed: functions that return numbers and print nothing."""
