"""The commands that apply and export networks, on pictures of any size."""
