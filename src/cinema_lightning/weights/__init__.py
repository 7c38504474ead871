"""Every way weights come and go: files and their layout, transfer, published and fine-tuned ones, export."""
