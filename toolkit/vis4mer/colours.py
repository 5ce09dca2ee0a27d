"""The colours of all drawings: timelines and the plots of evaluations."""

# Colours by name, for a white page and for a dark one. Those of lines are distinct in any colour vision (Okabe & Ito,
# Color Universal Design, 2008; lightened for the dark page).
LIGHT = {
    "surface": "#ffffff",
    "ink": "#1b1f24",
    "muted": "#626b76",
    "grid": "#e3e6ea",
    "line0": "#0072b2",
    "line1": "#d55e00",
    "line2": "#009e73",
    "line3": "#cc79a7",
    "line4": "#e69f00",
    "line5": "#56b4e9",
}
DARK = {
    "surface": "#14171c",
    "ink": "#eceff3",
    "muted": "#98a2ae",
    "grid": "#2b3038",
    "line0": "#4fb0ea",
    "line1": "#ff8a3d",
    "line2": "#2fc79a",
    "line3": "#e5a0c6",
    "line4": "#f2bb3c",
    "line5": "#a5dcff",
}
