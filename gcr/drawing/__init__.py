"""Candidates in, images out: any pipeline of diffusers, and what sets pipelines apart."""
