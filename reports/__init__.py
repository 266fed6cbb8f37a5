"""What draws pages: plots and pictures in one HTML file that needs neither network nor scripts.

    from reports.frame import render, write_page
    from reports.plots import Axis, Plot

    plot = Plot(Axis.share("false alarms"), Axis.share("tumors found"), label="ROC curve")
    write_page(folder / "report.html", lambda: render(Path("page.html"), plot=plot.svg()))

It needs Jinja and NumPy beside `gliogate`, and knows none of the rooms that draw with it.
"""
