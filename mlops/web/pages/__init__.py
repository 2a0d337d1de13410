"""The pages. Another one is a file here and a line in the table; the first is where one lands."""

from mlops.web.pages import models, risk

PAGES = {"risk": risk.PAGE, "models": models.PAGE}
