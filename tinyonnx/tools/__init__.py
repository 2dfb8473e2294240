"""Tools to inspect models: structure, values of all layers, differences between two runs, time.

Each module is a library function with its result; `tinyonnx.commands` prints them.

feeds     inputs from files, shapes and seeds       costs     multiplications, parameters, bytes
inspect   nodes, plan, passes                       trace     statistics of every activation
compare   layer by layer against another runtime    profile   time per step
oracles   results of onnx's reference, onnxruntime  report    all of these on one HTML page
operators implemented and standard versions         cautions  nodes whose results are not comparable
shapes    shapes without a run, also symbolic ones  runnable  the part of a model that can run
surgery   parts of models                           reduce    the smallest part that shows a fault

    session = tinyonnx.InferenceSession("model.onnx")
    feeds = make_feeds(session, dims={"time": 1000})
    comparison = compare_layers(session, feeds, reference_values("model.onnx", feeds))
    print(comparison.first_over(1e-4), comparison.worst)
"""
