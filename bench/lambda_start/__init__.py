"""How soon a Lambda function answers, beside the least that could: see ``__main__``."""
