"""Two models on one GPU: what stays there, how weights come and go, and when memory runs out."""
