"""Small charts as inline SVG: no library in the page, colours by CSS class, sharp and readable at every width.

Positions are per cent of the drawing's width and height and text keeps its own size, so that a chart fits a telephone
and a sheet of paper without being scaled. Every value that is drawn passes through `Markup.format`, which escapes it.
"""
