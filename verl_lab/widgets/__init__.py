"""What is shown in a notebook: the live panel of a run, and the still picture it leaves."""
