"""What tests of several modules share: helpers, and programs that run in processes of their own."""
