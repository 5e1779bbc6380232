"""Networks, data, loops and recipes that end in a bundle; inference never imports this."""
