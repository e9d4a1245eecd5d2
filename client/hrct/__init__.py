"""The HRCT category of the 2022 guideline, by rules on a pattern map: measures of the map, and the table of rules."""
