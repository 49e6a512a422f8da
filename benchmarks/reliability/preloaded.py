"""What the server of child processes loads before it forks the first one; no thread is started by it."""
