"""Commands that apply networks to images of any size, and export them."""
