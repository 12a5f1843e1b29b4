"""What several test modules share: helpers, one subject a module, and programs that run in processes of their own."""
