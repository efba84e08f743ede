import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.vestnik.client.ApiClient;
import dev.vestnik.client.ApiException;
import dev.vestnik.client.api.ListsApi;
import dev.vestnik.client.api.StreamsApi;
import dev.vestnik.client.model.Change;
import dev.vestnik.client.model.Order;
import dev.vestnik.client.model.StatusConflictError;
import java.util.LinkedHashMap;
import java.util.Map;

/** Checks the client that openapi-generator generates against a running server. Arguments: URL TOKEN ORDER. */
public class ClientCheck {
    static void check(boolean holds, String what) {
        if (!holds) throw new AssertionError(what);
    }

    static ApiClient as(String url, String token) {
        ApiClient client = new ApiClient();
        client.updateBaseUri(url);
        client.setRequestInterceptor(request -> request.header("Authorization", "Bearer " + token));
        return client;
    }

    public static void main(String[] arguments) throws Exception {
        String url = arguments[0], token = arguments[1], wanted = arguments[2];
        ApiClient client = as(url, token);
        ListsApi lists = new ListsApi(client);

        // Read the list page by page: each order appears exactly once, and the wanted order is among them.
        Map<String, Order> rows = new LinkedHashMap<>();
        String before = null, source = null;
        while (true) {
            var page = lists.orders("7", "all", null, 2, before, source);
            for (Order row : page.getOrders()) check(rows.put(row.getId(), row) == null, "an order is listed twice");
            if (!page.getMore()) break;
            Order last = page.getOrders().get(page.getOrders().size() - 1);
            before = last.getId();
            source = last.getSource();
        }
        Order order = rows.get(wanted);
        check(order != null && rows.size() > 2, "the orders: " + rows);

        var told = new StreamsApi(client).event("7", order.getEventId());
        check(told.getType().equals("new_order") && told.getData().get("order_id").equals(wanted), "the event: " + told);

        Change change = new Change().status(Change.StatusEnum.PREPARING).from(Change.FromEnum.PENDING).minutes(25);
        var changed = lists.changeOrder("7", wanted, change, null);
        check(changed.getStatus().equals("preparing"), "the change: " + changed);
        try {
            lists.changeOrder("7", wanted, change, null);
            check(false, "a second change was made");
        } catch (ApiException refused) {
            var error = client.getObjectMapper().readValue(refused.getResponseBody(), StatusConflictError.class).getError();
            check(refused.getCode() == 409 && error.getCode().equals("status_conflict"), "the second change: " + error);
            check(error.getStatus().equals("preparing"), "the second change: " + error);
        }

        try {
            new ListsApi(as(url, "vst_wrong")).orders("7", null, null, null, null, null);
            check(false, "a wrong token was taken");
        } catch (ApiException refused) {
            var error = client.getObjectMapper().readValue(refused.getResponseBody(), dev.vestnik.client.model.Error.class).getError();
            check(refused.getCode() == 401 && error.getCode().equals("unauthorized"), "a wrong token: " + error);
        }

        // A later version may send a new status and a new field. The client must accept both.
        ObjectNode members = client.getObjectMapper().valueToTree(order);
        members.put("status", "teleported").put("tomorrow", 1);
        Order future = client.getObjectMapper().treeToValue(members, Order.class);
        check(future.getStatus().equals("teleported"), "an order of tomorrow: " + future);
    }
}
