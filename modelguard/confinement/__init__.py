"""Work on a stranger's bytes in a child process that holds no secret: what it runs, what it may reach, and what it may say."""
