"""Critics: a vision-language model judges an image against a request.

critic           holds the parts, and asks: begin here
rubric           what is asked, and the form of the reply
speaker          what a model is: chats in, replies out
  local          a model on this machine: loading, quantized, prefix_cache
  endpoint       a model behind a server: server, server_errors, completions, probe
reply            a reply in the rubric's form as a critique: sections, refined_request, thoughts
checklist        a reply as yes/no questions
pairwise         a reply as a preference between two images
scoring          where a reply becomes a score
limits           what the embedded critic does not understand
"""
